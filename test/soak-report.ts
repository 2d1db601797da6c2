// SPDX-License-Identifier: Apache-2.0

/** What a campaign recorded, by its name: the text from its heading on. */
export type Sections = ReadonlyMap<string, string>;

const TITLE = "# What `make soak` found";
const INTRODUCTION =
  "The latest run of each campaign, with the commit, the day and the machine that it ran on.";

/** The sections of a report; those of campaigns that are not `known` any more are left out. */
export function parseReport(text: string, known: readonly string[]): Sections {
  const sections = new Map<string, string>();
  for (const section of text.split(/^(?=## )/m)) {
    const name = /^## ([\w-]+):/.exec(section)?.[1];
    if (name !== undefined && known.includes(name)) sections.set(name, `${section.trimEnd()}\n`);
  }
  return sections;
}

/** The whole report, its sections in the order of `known`. */
export function formatReport(sections: Sections, known: readonly string[]): string {
  const texts = known.flatMap((name) => sections.get(name) ?? []);
  return [TITLE, "", INTRODUCTION, "", texts.join("\n")].join("\n");
}
