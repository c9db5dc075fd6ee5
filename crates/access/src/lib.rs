//! JIT policies, access requests and grants: their life cycle, the use cases, and the ports to the world.
