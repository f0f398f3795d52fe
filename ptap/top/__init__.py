"""`ptap top`: what runs now, over a window of the last seconds and since the start; the model apart from the view."""
