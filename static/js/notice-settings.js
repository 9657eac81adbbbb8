// <notice-settings> lets the agent hear the sounds, and asks the browser for notifications when they press a button.
class NoticeSettings extends HTMLElement {
  connectedCallback() {
    const tryIt = this.button(this.dataset.try, () => this.play());
    document.getElementById("sound").after(tryIt);
    this.line = Object.assign(document.createElement("p"), { className: "soft under-check", role: "status" });
    this.allow = this.button(this.dataset.allow, async () => (await Notification.requestPermission(), this.update()));
    this.desktop = document.querySelector("[name=desktop]");
    this.desktop.addEventListener("change", () => this.update());
    this.append(this.line, this.allow);
    this.update();
  }

  button(text, onclick) {
    return Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: text, onclick });
  }

  async play() {
    const { play } = await import(this.dataset.sounds);
    await play(document.getElementById("sound").value);
  }

  // What the browser allows is the same for all pages of this address, and only this browser knows it.
  update() {
    const permission = window.Notification?.permission ?? "missing";
    const { checked } = this.desktop;
    this.allow.hidden = !checked || permission !== "default";
    this.line.textContent = checked ? (this.dataset[permission] ?? "") : "";
  }
}

customElements.define("notice-settings", NoticeSettings);
