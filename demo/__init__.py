"""The demo: the whole service, a host of sample photos, one job. Run: make demo"""
