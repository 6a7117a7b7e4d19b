// The SharedWorker: one feed for each gateway.

import { Feed } from "./feed.js";
import { untilLeft } from "./sharing.js";

const feeds = new Map();

self.onconnect = ({ ports: [port] }) => {
  const post = (said) => port.postMessage(said);
  let feed;
  port.onmessage = ({ data }) => {
    if (data.open) {
      const { base, options, tab } = data.open;
      const key = JSON.stringify([base, options]);
      if (!feeds.has(key)) feeds.set(key, new Feed(base, options));
      feed = feeds.get(key);
      untilLeft(tab).then(() => feed.leave(post));
    } else feed.take(post, data);
  };
};
