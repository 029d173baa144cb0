"""The demo: real servers, each in its own cgroup, a known load, and the real agent."""
