"""Messages are kept in memory; said before the application is imported."""

import os

os.environ["CELERY_BROKER"] = "memory://"
