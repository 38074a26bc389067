-- Which parameters the figures of an event were computed with, so that a replay gives the same ones.

ALTER TABLE blockchain_events ADD COLUMN params_version bigint NOT NULL DEFAULT 1;
ALTER TABLE blockchain_events ALTER COLUMN params_version DROP DEFAULT;
COMMENT ON COLUMN blockchain_events.params_version IS 'the configuration version that was current when it was posted';
