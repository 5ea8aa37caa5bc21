// Whether the server answers: what the page says, and when it asks again.
import { byId, count } from "./dom.js";

const FIRST = 1_000;
const LONGEST = 10_000;

export class Connection {
  /** `onRetry()` asks the server at once. */
  constructor(onRetry) {
    this.trouble = "";
    this.wait = FIRST;
    this.nextAt = 0;
    byId("retry").addEventListener("click", () => {
      this.nextAt = 0;
      onRetry();
    });
    setInterval(() => this.countDown(), 500);
  }

  succeed() {
    this.trouble = "";
    this.wait = FIRST;
    this.countDown();
  }

  /** Take note of a failure, and return how many milliseconds to wait. */
  fail(error) {
    this.trouble = error.message;
    const wait = this.wait;
    this.wait = Math.min(2 * wait, LONGEST);
    this.nextAt = performance.now() + wait;
    this.countDown();
    return wait;
  }

  /** The seconds change often, so they are not part of what a screen reader announces. */
  countDown() {
    byId("retry").hidden = !this.trouble;
    const seconds = Math.ceil((this.nextAt - performance.now()) / 1_000);
    byId("countdown").textContent = !this.trouble ? "" : seconds > 0 ? `next try in ${seconds} s` : "asking…";
  }

  show({ isPaused, arrived, listed, skipped }) {
    const paused = arrived ? `Paused: ${count(arrived)} new` : "Paused";
    const mode = this.trouble ? `No answer: ${this.trouble}` : isPaused ? paused : "Live";
    const text = `${mode} · ${count(listed)} listed${skipped ? `, ${count(skipped)} skipped` : ""}`;
    const shown = byId("state");
    if (shown.textContent !== text) shown.textContent = text;
    shown.className = `state ${this.trouble ? "trouble" : isPaused ? "paused" : "live"}`;
  }
}
