"""Many photos: segmented shard by shard, resumable, nothing lost; see docs/bulk.md."""

from ovseg.bulk.job import Estimate, Job, Outcome, Settings
from ovseg.bulk.page import write_page
from ovseg.bulk.plan import PHOTOS_PER_SHARD, Plan, Shard
from ovseg.bulk.reading import Found, read
from ovseg.bulk.worker import ModelChoice, Words
from ovseg.bulk.writers import WRITERS
from ovseg.datasets.sources import Listing, Photo, list_source

__all__ = [
    "PHOTOS_PER_SHARD",
    "WRITERS",
    "Estimate",
    "Found",
    "Job",
    "Listing",
    "ModelChoice",
    "Outcome",
    "Photo",
    "Plan",
    "Settings",
    "Shard",
    "Words",
    "list_source",
    "read",
    "write_page",
]
