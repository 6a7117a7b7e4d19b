// What is said to who listens instead of looks: ends and the connection, together and not more often than people hear.

const EVERY = 1_000;
const MOST_ENDS = 3;

export class Announcer {
  constructor() {
    this.region = document.getElementById("announcer");
    this.said = [];
    this.ends = [];
  }

  say(text) {
    this.said.push(text);
    this.#soon();
  }

  ended(text) {
    this.ends.push(text);
    this.#soon();
  }

  #soon() {
    this.timer ??= setTimeout(() => this.#speak(), EVERY);
  }

  #speak() {
    const more = this.ends.length - MOST_ENDS;
    const ends = this.ends.slice(0, MOST_ENDS);
    if (more > 0) ends.push(`and ${more} more ended`);
    this.region.textContent = [...new Set(this.said), ...ends].join(". ");
    this.said = [];
    this.ends = [];
    this.timer = undefined;
  }
}
