"""The Dagster side: assets, checks and runs. Thin: it shows and schedules what the other packages do."""
