"""HTTP requests of applications and operators: publications, the REST API, health, metrics."""
