"""Long work in threads, for app and notebook."""
