"""The page in the browser: shows the bundle of deploy and the stored predictions of evaluation."""
