"""Real services for tests, benchmarks and chaos runs: throwaway MariaDB, Redis and processes of this service."""
