-- Times are milliseconds since 1970, UTC. Counts and numbers from /proc fit 63 bits.

CREATE TABLE job (
    name          TEXT    NOT NULL PRIMARY KEY,
    path          TEXT    NOT NULL,
    sha256        TEXT    NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE run (
    id              TEXT    NOT NULL PRIMARY KEY,
    job             TEXT    NOT NULL REFERENCES job (name),
    -- The file as it was then; `job` has the newest.
    job_path        TEXT    NOT NULL,
    job_sha256      TEXT    NOT NULL,
    command         TEXT    NOT NULL,
    mode            TEXT    NOT NULL,
    is_exclusive    INTEGER NOT NULL,
    state           TEXT    NOT NULL,
    exit_code       INTEGER,
    started_at_ms   INTEGER NOT NULL,
    ended_at_ms     INTEGER,
    heartbeat_at_ms INTEGER NOT NULL,
    started_by      TEXT    NOT NULL,
    -- JSON: host, boot, pid, started_ticks.
    holder          TEXT    NOT NULL,
    worker          TEXT,
    folder          TEXT    NOT NULL,
    read_count      INTEGER NOT NULL DEFAULT 0,
    written_count   INTEGER NOT NULL DEFAULT 0,
    skipped_count   INTEGER NOT NULL DEFAULT 0,
    rejected_count  INTEGER NOT NULL DEFAULT 0,
    failure_code    TEXT,
    failure_message TEXT,
    -- JSON: a list of role, name, version.
    plugins         TEXT    NOT NULL DEFAULT '[]'
) STRICT;

CREATE INDEX run_by_start ON run (started_at_ms, id);
CREATE INDEX run_by_job ON run (job, started_at_ms);

CREATE TABLE event (
    run   TEXT    NOT NULL REFERENCES run (id),
    seq   INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    kind  TEXT    NOT NULL,
    body  TEXT    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE rejected_record (
    run        TEXT    NOT NULL REFERENCES run (id),
    number     INTEGER NOT NULL,
    collection TEXT    NOT NULL,
    record     TEXT    NOT NULL,
    code       TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    data       TEXT,
    at_ms      INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX rejected_record_by_collection ON rejected_record (run, collection, number);
