"""Networks on the behavioural models: inference, training, validation, command line."""
