"""Training: data, augmentation, losses, schedules, and a loop that resumes after a kill."""
