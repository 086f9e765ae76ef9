-- The run whose copy this one goes on with, and the run that began that copy.
ALTER TABLE run ADD COLUMN resumes TEXT;
ALTER TABLE run ADD COLUMN begun_by TEXT;
-- JSON: what the command line laid over the job, so that a resumed run has it too.
ALTER TABLE run ADD COLUMN overrides TEXT NOT NULL DEFAULT '{}';
