"""The Dagster side: assets, checks and runs. Thin: it shows and schedules what `plan`, `build`, `bench` and `publish` do."""
