from prefect_gcp_cloud_run.cli import main as main
