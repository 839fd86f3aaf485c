# SPDX-License-Identifier: Apache-2.0
"""From a model file to a `host.network.layers.Network`: one reader for each format, one builder for all."""
