# SPDX-License-Identifier: Apache-2.0
"""What every wing stands on: errors, files, caches, and what is shipped beside the code; imports none of the wings."""

from nonzero.caches import use_cache

use_cache()
