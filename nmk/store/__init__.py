"""The database: peewee models, the atomic commit, engines and migrations."""
