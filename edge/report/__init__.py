"""The report of one coil, from its record: model first, then its files (JSON, CSV, HTML, PNG, PDF); and the trend over coils."""
