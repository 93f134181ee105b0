"""What operators see of Outspoken in Grafana: dashboards, made by `python -m grafana.generate`."""
