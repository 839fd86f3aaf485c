# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

from rtl.amaranth_private import let_unused_be

# A component that refuses its parameters, or whose Verilog lies in the cache, is never elaborated. Amaranth warns of it
# when it is collected: perhaps in another test of the process, under the warning filters of whatever runs there.
let_unused_be()
