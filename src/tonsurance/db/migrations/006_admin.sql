-- People of the admin API, tokens taken back before their time, and changes that wait for a second person.

CREATE TABLE admin_users (
    sub text PRIMARY KEY CHECK (sub ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$'),
    role text NOT NULL CHECK (role IN ('viewer', 'editor', 'approver', 'admin')),
    enabled boolean NOT NULL DEFAULT true,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL
);
COMMENT ON TABLE admin_users IS 'limits what a person''s token may do; approvers must stand here';

-- Names are compared without case, so that nobody is two people.
CREATE UNIQUE INDEX idx_admin_users_name ON admin_users (lower(sub));

CREATE TABLE revoked_tokens (
    jti text PRIMARY KEY CHECK (length(jti) BETWEEN 1 AND 100),
    until timestamptz NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    revoked_by text NOT NULL
);
COMMENT ON COLUMN revoked_tokens.until IS 'when the token would have expired anyway; the row may go then';

CREATE TABLE config_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'open'
        CHECK (status IN ('open', 'applied', 'rejected', 'cancelled', 'outdated')),
    author text NOT NULL,
    author_ip inet,
    request_id text,
    reason text NOT NULL CHECK (reason <> ''),
    kind text NOT NULL CHECK (kind IN ('edit', 'rollback')),
    edits jsonb NOT NULL CHECK (jsonb_typeof(edits) = 'array' AND jsonb_array_length(edits) > 0),
    base_version bigint NOT NULL CHECK (base_version >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    decided_by text,
    decision_reason text,
    applied_version bigint,
    CHECK ((status = 'open') = (decided_at IS NULL)),
    CHECK ((status = 'open') = (decided_by IS NULL)),
    CHECK ((status = 'applied') = (applied_version IS NOT NULL)),
    CONSTRAINT approver_is_not_author CHECK (status <> 'applied' OR lower(decided_by) <> lower(author))
);
COMMENT ON TABLE config_changes IS 'proposed edits of parameters; those of money wait here for a second person';
COMMENT ON COLUMN config_changes.base_version IS 'version the author saw; a parameter changed after it makes the request outdated';

CREATE INDEX idx_config_changes_status ON config_changes (status, change_id);

CREATE FUNCTION refuse_second_decision() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'change % is % and stays so', OLD.change_id, OLD.status USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER trg_changes_decided_once BEFORE UPDATE ON config_changes
    FOR EACH ROW
    WHEN (OLD.status <> 'open' OR (NEW.author, NEW.edits, NEW.base_version, NEW.reason, NEW.created_at)
          IS DISTINCT FROM (OLD.author, OLD.edits, OLD.base_version, OLD.reason, OLD.created_at))
    EXECUTE FUNCTION refuse_second_decision();

CREATE TRIGGER trg_changes_stay BEFORE DELETE OR TRUNCATE ON config_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
