"""MLflow store, records, policy and selection."""
