"""One picture, looked at: compared, attributed, followed while a student learns."""
