-- A worker that drains may come back and finish its job; one that was told to end may not.
ALTER TABLE workers ADD COLUMN fate TEXT NOT NULL DEFAULT 'serves';
UPDATE workers SET fate = 'drains' WHERE draining;
UPDATE workers SET fate = 'ends' WHERE draining AND status = 'lost';
ALTER TABLE workers DROP COLUMN draining;
