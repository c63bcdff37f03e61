"""The report of one coil, from its record, as JSON, CSV, HTML, PNG and PDF; and the trend over coils."""
