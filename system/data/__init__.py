"""Real data sets: fetched by the ordinary clients, or the user's own in their standard formats."""
