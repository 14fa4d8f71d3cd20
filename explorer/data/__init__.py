"""From any file, folder, zip or data set to pictures, RGB in [0, 1], and their labels."""
