-- What people add to pages, and the orders in which pages are listed.

-- A URL may be longer than a btree can hold: beyond 400 characters the order is that of time.
CREATE INDEX pages_by_url ON pages (project_id, (left(urlkey, 400)) COLLATE "C", first_seen, id);
CREATE INDEX pages_by_time ON pages (project_id, first_seen, id);

-- One row for a page that somebody added something to: the one thing that a page's end has to look for.
-- All that was added refers to it.
CREATE TABLE annotated_pages (
    page_id     bigint PRIMARY KEY REFERENCES pages ON DELETE CASCADE,
    project_id  int NOT NULL,
    review      text NOT NULL DEFAULT 'unreviewed' CHECK (review IN ('unreviewed', 'accepted', 'rejected', 'needs_work')),
    reviewer_id int REFERENCES users ON DELETE SET NULL,
    reviewed_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX annotated_pages_review ON annotated_pages (project_id, review, page_id) WHERE review <> 'unreviewed';
CREATE INDEX annotated_pages_reviewer ON annotated_pages (reviewer_id) WHERE reviewer_id IS NOT NULL;

CREATE TABLE starred_items (
    page_id    bigint NOT NULL REFERENCES annotated_pages ON DELETE CASCADE,
    user_id    int NOT NULL REFERENCES users ON DELETE CASCADE,
    starred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (page_id, user_id)
);
CREATE INDEX starred_items_user ON starred_items (user_id, starred_at, page_id);

CREATE TABLE page_tags (
    page_id    bigint NOT NULL REFERENCES annotated_pages ON DELETE CASCADE,
    tag        text COLLATE "C" NOT NULL CHECK (char_length(tag) BETWEEN 1 AND 50),
    project_id int NOT NULL,
    user_id    int REFERENCES users ON DELETE SET NULL,
    tagged_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (page_id, tag)
);
CREATE INDEX page_tags_project ON page_tags (project_id, tag, page_id);
CREATE INDEX page_tags_user ON page_tags (user_id) WHERE user_id IS NOT NULL;
COMMENT ON COLUMN page_tags.tag IS 'as model/library.py normalises it';

CREATE TABLE page_notes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id    bigint NOT NULL REFERENCES annotated_pages ON DELETE CASCADE,
    author_id  int NOT NULL REFERENCES users ON DELETE CASCADE,
    text       text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz
);
CREATE INDEX page_notes_page ON page_notes (page_id, id);
CREATE INDEX page_notes_author ON page_notes (author_id);

-- Every change of a page's review; the last one stands in annotated_pages, too.
CREATE TABLE page_reviews (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id bigint NOT NULL REFERENCES annotated_pages ON DELETE CASCADE,
    user_id int REFERENCES users ON DELETE SET NULL,
    review  text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX page_reviews_page ON page_reviews (page_id, id);
CREATE INDEX page_reviews_user ON page_reviews (user_id) WHERE user_id IS NOT NULL;

-- `request` is what POST /search takes.
CREATE TABLE saved_searches (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    int NOT NULL REFERENCES users ON DELETE CASCADE,
    name       text COLLATE "C" NOT NULL,
    request    jsonb NOT NULL,
    saved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz,
    UNIQUE (user_id, name)
);

-- A page that user p_user may see (p_admin: an admin), held so that it is not deleted meanwhile. Whoever
-- may write in its project (p_reads: whoever sees it) may add to it then. No row: there is no such page for them.
CREATE FUNCTION hold_page(p_page bigint, p_user int, p_admin boolean, p_reads boolean)
RETURNS TABLE (project_id int, role text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT p.project_id, v.role INTO hold_page.project_id, hold_page.role
      FROM pages p JOIN visible_projects(p_user, p_admin) v ON v.project_id = p.project_id
     WHERE p.id = p_page FOR KEY SHARE OF p;
    IF NOT FOUND THEN RETURN; END IF;
    IF p_reads OR hold_page.role <> 'read' THEN
        INSERT INTO annotated_pages (page_id, project_id) VALUES (p_page, hold_page.project_id) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEXT;
END $$;

CREATE FUNCTION star_page(p_page bigint, p_user int, p_admin boolean)
RETURNS TABLE (project_id int, role text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.* INTO star_page.project_id, star_page.role FROM hold_page(p_page, p_user, p_admin, true) h;
    IF NOT FOUND THEN RETURN; END IF;
    INSERT INTO starred_items (page_id, user_id) VALUES (p_page, p_user) ON CONFLICT DO NOTHING;
    RETURN NEXT;
END $$;

-- `tags` are the page's afterwards; null: it had p_most of them already, and this was none of those.
CREATE FUNCTION tag_page(p_page bigint, p_user int, p_admin boolean, p_tag text, p_most int)
RETURNS TABLE (project_id int, role text, tags text[]) LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.* INTO tag_page.project_id, tag_page.role FROM hold_page(p_page, p_user, p_admin, false) h;
    IF NOT FOUND THEN RETURN; END IF;
    IF tag_page.role = 'read' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM FROM annotated_pages a WHERE a.page_id = p_page FOR NO KEY UPDATE;  -- two at once count one after the other
    SELECT coalesce(array_agg(t.tag ORDER BY t.tag), '{}') INTO tag_page.tags FROM page_tags t WHERE t.page_id = p_page;
    IF NOT p_tag = ANY (tag_page.tags) THEN
        IF cardinality(tag_page.tags) >= p_most THEN
            tag_page.tags := NULL;
            RETURN NEXT;
            RETURN;
        END IF;
        INSERT INTO page_tags (page_id, tag, project_id, user_id) VALUES (p_page, p_tag, tag_page.project_id, p_user);
        SELECT array_agg(t.tag ORDER BY t.tag) INTO tag_page.tags FROM page_tags t WHERE t.page_id = p_page;
    END IF;
    RETURN NEXT;
END $$;

CREATE FUNCTION note_page(p_page bigint, p_user int, p_admin boolean, p_text text)
RETURNS TABLE (project_id int, role text, id bigint, written_at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.* INTO note_page.project_id, note_page.role FROM hold_page(p_page, p_user, p_admin, false) h;
    IF NOT FOUND THEN RETURN; END IF;
    IF note_page.role <> 'read' THEN
        INSERT INTO page_notes AS n (page_id, author_id, text) VALUES (p_page, p_user, p_text)
        RETURNING n.id, n.written_at INTO note_page.id, note_page.written_at;
    END IF;
    RETURN NEXT;
END $$;

-- The page's review afterwards: saying again what is so already changes neither it nor who said it.
CREATE FUNCTION review_page(p_page bigint, p_user int, p_admin boolean, p_review text)
RETURNS TABLE (project_id int, role text, reviewer_id int, reviewed_at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    SELECT h.* INTO review_page.project_id, review_page.role FROM hold_page(p_page, p_user, p_admin, false) h;
    IF NOT FOUND THEN RETURN; END IF;
    IF review_page.role <> 'read' THEN
        UPDATE annotated_pages a SET review = p_review, reviewer_id = p_user, reviewed_at = clock_timestamp()
         WHERE a.page_id = p_page AND a.review <> p_review;
        IF FOUND THEN
            INSERT INTO page_reviews (page_id, user_id, review) VALUES (p_page, p_user, p_review);
        END IF;
        SELECT a.reviewer_id, a.reviewed_at INTO review_page.reviewer_id, review_page.reviewed_at
          FROM annotated_pages a WHERE a.page_id = p_page;
    END IF;
    RETURN NEXT;
END $$;

-- How many searches a user has saved: of several at once each counts those before.
CREATE FUNCTION searches_kept(p_user int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    RETURN (SELECT count(*) FROM saved_searches o WHERE o.user_id = p_user);
END $$;
