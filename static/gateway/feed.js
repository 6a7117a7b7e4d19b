// The one connection of an origin, and the ports (tabs) that share it. Lives in a SharedWorker, in the tab that leads,
// or, where nothing can be shared, beside its only port. A port gets the messages of the wire, and how it stands.

import { Connection } from "./connection.js";
import { Mirror } from "./mirror.js";

const MOST_IDS = 400; // more are no query: everything is followed then

export class Feed {
  constructor(base, options) {
    this.ports = new Map(); // by the function that posts to it: {ids, number, covered}
    this.mirror = new Mirror((said) => this.publish(said));
    this.connection = new Connection(
      base,
      (said) => this.mirror.take(said),
      (state) => this.publish({ state: (this.state = state) }),
      options,
    );
    this.followed = undefined; // a set of ids; null: all
  }

  publish(said) {
    for (const [post, { number, covered }] of this.ports) {
      if (said.event !== "synced") post(said);
      else if (covered) post({ ...said, number }); // else it wants what is not followed yet
    }
  }

  /** What a port says. */
  take(post, { want, leave, wake, ping }) {
    if (want) this.want(post, want);
    if (leave) this.leave(post);
    if (wake) this.connection.wake();
    if (ping) setTimeout(() => post({ pong: true })); // Firefox hears behind a dialog, but neither times nor fetches
  }

  /** A port wants these ids (null: all) from now on; `number` comes back with `synced` once that is so. */
  want(post, { ids, number }) {
    const fresh = !this.ports.has(post);
    const covered = this.covers(ids);
    this.ports.set(post, { ids, number, covered });
    if (fresh && this.state) post({ state: this.state });
    if (covered) this.replay(post, number);
    else this.refollowSoon();
  }

  leave(post) {
    this.ports.delete(post);
    if (this.ports.size) return;
    this.connection.stop();
    this.followed = this.state = undefined;
    this.mirror.clear();
  }

  covers(ids) {
    if (!this.followed || !ids) return this.followed === null;
    return ids.every((id) => this.followed.has(id));
  }

  /** What is known already; more than the port wants, which it passes over. */
  replay(post, number) {
    post({ event: "reset" });
    for (const task of this.mirror.tasks.values()) post({ task });
    for (const [id, error] of this.mirror.faults) post({ event: "invalid", id, error });
    if (this.mirror.synced) post({ event: "synced", number });
  }

  /** A page that begins to watch many tasks at once shall not connect for each. */
  refollowSoon() {
    this.soon ??= setTimeout(() => {
      this.soon = undefined;
      if (this.ports.size) this.refollow();
    }, 5);
  }

  refollow() {
    const wants = [...this.ports.values()];
    const union = new Set(wants.flatMap(({ ids }) => ids ?? []));
    this.followed = wants.some(({ ids }) => !ids) || union.size > MOST_IDS ? null : union;
    this.mirror.begin();
    for (const [post, want] of this.ports) {
      if (!want.covered) this.replay(post);
      want.covered = true;
    }
    this.connection.follow(this.followed && [...this.followed]);
  }
}
