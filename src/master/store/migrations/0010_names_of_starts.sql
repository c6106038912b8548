-- What a provisioner calls a start of a machine; nothing: no listing has shown it yet.
ALTER TABLE instance_runs ADD COLUMN start TEXT;
