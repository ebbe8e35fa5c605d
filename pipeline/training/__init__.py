"""Data, augmentation, losses, schedule and the loop that can be killed and continued."""
