"""One lease is POSTed and becomes an `Answer`. Nothing here knows the database."""
