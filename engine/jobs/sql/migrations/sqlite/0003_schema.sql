-- Names of the engine's own, beside whatever else is in the file. A database that has none of these gets them at once: see
-- ../../baselines.
DROP TRIGGER jobs_added;
DROP TRIGGER jobs_changed;
DROP TRIGGER jobs_removed;
ALTER TABLE jobs RENAME TO outspoken_jobs;
ALTER TABLE results RENAME TO outspoken_results;
ALTER TABLE queues RENAME TO outspoken_queues;
ALTER TABLE uploads RENAME TO outspoken_uploads;
ALTER TABLE api_keys RENAME TO outspoken_api_keys;
DROP INDEX jobs_queued;
DROP INDEX jobs_leased;
DROP INDEX jobs_of_key;
DROP INDEX jobs_created;
DROP INDEX jobs_ended;
DROP INDEX jobs_audio;
DROP INDEX jobs_turn;
DROP INDEX jobs_suspect;
DROP INDEX results_ended;
DROP INDEX queues_waiting;
DROP INDEX uploads_created;
