"""The local web service: captures as pages and profiles, and symbols for the Firefox Profiler."""
