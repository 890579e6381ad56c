"""The ways of working that are measured: each module starts its processes, times one job and ends them again."""
