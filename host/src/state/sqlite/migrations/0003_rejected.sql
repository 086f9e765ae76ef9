-- The phase that refused the record: what its data looks like depends on it.
ALTER TABLE rejected_record ADD COLUMN stage TEXT NOT NULL DEFAULT 'import';
-- The lane's partition, and the commit that leaves the record out: it counts once the lane has reached that number.
ALTER TABLE rejected_record ADD COLUMN partition_label TEXT NOT NULL DEFAULT '';
ALTER TABLE rejected_record ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
-- By what a comparison knows it, in hexadecimal digits.
ALTER TABLE rejected_record ADD COLUMN digest TEXT;
-- The data as somebody has corrected it.
ALTER TABLE rejected_record ADD COLUMN edited TEXT;
