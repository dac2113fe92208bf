from prefect_gcp_cloud_run.emulator import *
from prefect_gcp_cloud_run.emulator import main as main
