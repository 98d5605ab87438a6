"""Training and noise-aware fine-tuning in torch (extra `train`)."""
