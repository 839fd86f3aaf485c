# SPDX-License-Identifier: Apache-2.0
"""Base of all packages: errors, files, caches, and the files shipped beside the code. It imports none of
them.
"""

from nonzero.caches import use_cache

use_cache()
