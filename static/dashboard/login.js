// Where the gateway asks who is there: a token, kept for as long as the tab is.

const KEY = "gateway token";

export class Login {
  constructor(entered) {
    this.form = document.getElementById("login");
    this.field = this.form.querySelector("input");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, this.field.value.trim());
      this.field.value = "";
      this.form.hidden = true;
      entered();
    });
  }

  get token() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  /** What a connection is made with. Without a token it may be shared, and a cookie may do. */
  get options() {
    return this.token ? { token: () => this.token } : {};
  }

  get headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /** How the connection stands: refused, it needs another token. */
  take({ status, reason }) {
    if (status === "live" || status === "polling") this.form.hidden = true;
    if (!reason?.includes("401") || !this.form.hidden) return;
    this.form.hidden = false;
    this.field.focus();
  }
}
