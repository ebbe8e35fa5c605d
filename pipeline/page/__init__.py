"""The page in the browser: above deploy and evaluation, whose bundle and stored predictions it shows."""
