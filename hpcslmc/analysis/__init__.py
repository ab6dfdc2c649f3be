"""After a run: results, statistics, tables, figures."""
