"""Models that other programs serve over HTTP: the client, and what each provider speaks."""
