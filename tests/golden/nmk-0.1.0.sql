PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta VALUES('epoch','1b4f2c802a3f75c0');
INSERT INTO meta VALUES('schema','1');
INSERT INTO meta VALUES('controller','Shc6+J4nEMbPAzSmwdsal789+qIurrSKsmuaPn9NuBg=');
CREATE TABLE changes (
        network TEXT NOT NULL,
        revision BIGINT NOT NULL,
        commit_id TEXT NOT NULL UNIQUE,
        at BIGINT NOT NULL,
        actor TEXT NOT NULL,
        what TEXT NOT NULL,
        PRIMARY KEY (network, revision)
    );
INSERT INTO changes VALUES('*',1,'9a62c27acd58a08c',1795644764,'root','[]');
INSERT INTO changes VALUES('home',1,'0ea4a4e9e31aa044',1795644764,'root','[{"table":"networks","before":null,"after":{"name":"home","cidr4":"10.20.0.0/16","cidr6":"fd20::/64","settings":"{}","created_at":1795644764,"deleted_at":null,"revision":1}}]');
INSERT INTO changes VALUES('home',2,'b7ec74d86f3d5eb2',1795644764,'root','[{"table":"networks","before":{"name":"home","cidr4":"10.20.0.0/16","cidr6":"fd20::/64","settings":"{}","created_at":1795644764,"deleted_at":null,"revision":1},"after":{"name":"home","cidr4":"10.20.0.0/16","cidr6":"fd20::/64","settings":"{\"keepalive\": 0, \"mtu\": 1380}","created_at":1795644764,"deleted_at":null,"revision":2}}]');
INSERT INTO changes VALUES('home',3,'47943382eb977c15',1795644764,'root','[{"table":"access_keys","before":null,"after":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":0,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":3}}]');
INSERT INTO changes VALUES('home',4,'746cc0f23224b3f1',1795644764,'root','[{"table":"access_keys","before":null,"after":{"id":"b16cf6c2d4bb5dd7","network":"home","secret_hash":"0fbeca174c8cb993573d466f7e4945e9a2e70e139769d45ff9cf6b021b9535d5","uses":0,"uses_max":1,"expires_at":1795731164,"created_at":1795644764,"deleted_at":null,"revision":4}}]');
INSERT INTO changes VALUES('home',5,'4e0dcac61fabdd72',1795644764,'node:RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=','[{"table":"nodes","before":null,"after":{"identity":"RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=","network":"home","name":"gone","address4":"10.20.0.1","address6":"fd20::1","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":5,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=","listen_port":51821,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance1"}},{"table":"access_keys","before":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":0,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":3},"after":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":1,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":5}}]');
INSERT INTO changes VALUES('home',6,'bde4e0cb5ccd8fda',1795644764,'node:N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=','[{"table":"nodes","before":null,"after":{"identity":"N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=","network":"home","name":"web","address4":"10.20.0.2","address6":"fd20::2","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":6,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI=","listen_port":51822,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance2"}},{"table":"access_keys","before":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":1,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":5},"after":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":2,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":6}}]');
INSERT INTO changes VALUES('home',7,'c7ce80ecaed2b76e',1795644764,'node:woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=','[{"table":"nodes","before":null,"after":{"identity":"woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=","network":"home","name":"db","address4":"10.20.0.3","address6":"fd20::3","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":7,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM=","listen_port":51823,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance3"}},{"table":"access_keys","before":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":2,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":6},"after":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":3,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":7}}]');
INSERT INTO changes VALUES('home',8,'7a6575e711c346af',1795644764,'node:233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=','[{"table":"nodes","before":null,"after":{"identity":"233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=","network":"home","name":"office","address4":"10.20.0.4","address6":"fd20::4","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":8,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ=","listen_port":51824,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance4"}},{"table":"access_keys","before":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":3,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":7},"after":{"id":"d8c28bce7ceedffd","network":"home","secret_hash":"96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc","uses":4,"uses_max":5,"expires_at":null,"created_at":1795644764,"deleted_at":null,"revision":8}}]');
INSERT INTO changes VALUES('home',9,'0be49a1565c89990',1795644764,'node:N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=','[{"table":"nodes","before":{"identity":"N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=","network":"home","name":"web","address4":"10.20.0.2","address6":"fd20::2","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":6,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI=","listen_port":51822,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance2"},"after":{"identity":"N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=","network":"home","name":"web","address4":"10.20.0.2","address6":"fd20::2","observed":"[]","endpoint":null,"seq":1,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":9,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI=","listen_port":51822,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":"198.51.100.7:51821","instance":"instance2"}}]');
INSERT INTO changes VALUES('home',10,'0583832bec2cd54d',1795644764,'node:RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=','[{"table":"nodes","before":{"identity":"RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=","network":"home","name":"gone","address4":"10.20.0.1","address6":"fd20::1","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":5,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=","listen_port":51821,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance1"},"after":{"identity":"RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=","network":"home","name":"gone","address4":"10.20.0.1","address6":"fd20::1","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":1795644764,"revision":10,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=","listen_port":51821,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance1"}}]');
INSERT INTO changes VALUES('home',11,'6481e87e31ae5c4a',1795644765,'root','[{"table":"nodes","before":{"identity":"woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=","network":"home","name":"db","address4":"10.20.0.3","address6":"fd20::3","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":7,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM=","listen_port":51823,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance3"},"after":{"identity":"woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=","network":"home","name":"db","address4":"10.20.0.77","address6":"fd20::3","observed":"[]","endpoint":"[2001:db8::7]:51822","seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":11,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM=","listen_port":51823,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance3"}}]');
INSERT INTO changes VALUES('home',12,'557821e0b95fc85f',1795644765,'root','[{"table":"nodes","before":{"identity":"233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=","network":"home","name":"office","address4":"10.20.0.4","address6":"fd20::4","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":8,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ=","listen_port":51824,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance4"},"after":{"identity":"233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=","network":"home","name":"site","address4":"10.20.0.4","address6":"fd20::4","observed":"[]","endpoint":null,"seq":0,"key_id":"d8c28bce7ceedffd","created_at":1795644764,"deleted_at":null,"revision":12,"wg_key":"BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ=","listen_port":51824,"lan":"[\"192.168.1.7/24\", \"fd00::7/64\"]","interval":60,"pinned":null,"instance":"instance4"}}]');
INSERT INTO changes VALUES('*',2,'3a5ce409d0dd95a2',1795644765,'root','[]');
INSERT INTO changes VALUES('lab',1,'ad9a74e0b060c5b7',1795644765,'root','[{"table":"networks","before":null,"after":{"name":"lab","cidr4":"10.30.0.0/24","cidr6":null,"settings":"{}","created_at":1795644765,"deleted_at":null,"revision":1}}]');
INSERT INTO changes VALUES('*',3,'51ecd3795804bb97',1795644765,'root','[]');
INSERT INTO changes VALUES('lab',2,'0881e9bac520792c',1795644765,'root','[{"table":"networks","before":{"name":"lab","cidr4":"10.30.0.0/24","cidr6":null,"settings":"{}","created_at":1795644765,"deleted_at":null,"revision":1},"after":{"name":"lab","cidr4":"10.30.0.0/24","cidr6":null,"settings":"{}","created_at":1795644765,"deleted_at":1795644765,"revision":2}}]');
CREATE TABLE networks (
        name TEXT NOT NULL PRIMARY KEY,
        cidr4 TEXT,
        cidr6 TEXT,
        settings TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        CHECK (cidr4 IS NOT NULL OR cidr6 IS NOT NULL)
    );
INSERT INTO networks VALUES('home','10.20.0.0/16','fd20::/64','{"keepalive": 0, "mtu": 1380}',1795644764,NULL,2);
INSERT INTO networks VALUES('lab','10.30.0.0/24',NULL,'{}',1795644765,1795644765,2);
CREATE TABLE access_keys (
        network TEXT NOT NULL REFERENCES networks (name),
        id TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        uses BIGINT NOT NULL,
        uses_max BIGINT,
        expires_at BIGINT,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        PRIMARY KEY (network, id),
        CHECK (uses >= 0 AND (uses_max IS NULL OR uses <= uses_max))
    );
INSERT INTO access_keys VALUES('home','d8c28bce7ceedffd','96843df30bff1875339fb3f35d676d6215056366baff509aee59ed132fc646dc',4,5,NULL,1795644764,NULL,8);
INSERT INTO access_keys VALUES('home','b16cf6c2d4bb5dd7','0fbeca174c8cb993573d466f7e4945e9a2e70e139769d45ff9cf6b021b9535d5',0,1,1795731164,1795644764,NULL,4);
CREATE TABLE nodes (
        network TEXT NOT NULL REFERENCES networks (name),
        identity TEXT NOT NULL,
        name TEXT NOT NULL,
        address4 TEXT,
        address6 TEXT,
        wg_key TEXT NOT NULL,
        listen_port BIGINT NOT NULL,
        lan TEXT NOT NULL,
        interval BIGINT NOT NULL,
        pinned TEXT,
        instance TEXT NOT NULL,
        observed TEXT NOT NULL,
        endpoint TEXT,
        seq BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        PRIMARY KEY (network, identity),
        CHECK (address4 IS NOT NULL OR address6 IS NOT NULL)
    );
INSERT INTO nodes VALUES('home','RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=','gone','10.20.0.1','fd20::1','BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=',51821,'["192.168.1.7/24", "fd00::7/64"]',60,NULL,'instance1','[]',NULL,0,'d8c28bce7ceedffd',1795644764,1795644764,10);
INSERT INTO nodes VALUES('home','N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=','web','10.20.0.2','fd20::2','BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI=',51822,'["192.168.1.7/24", "fd00::7/64"]',60,'198.51.100.7:51821','instance2','[]',NULL,1,'d8c28bce7ceedffd',1795644764,NULL,9);
INSERT INTO nodes VALUES('home','woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=','db','10.20.0.77','fd20::3','BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM=',51823,'["192.168.1.7/24", "fd00::7/64"]',60,NULL,'instance3','[]','[2001:db8::7]:51822',0,'d8c28bce7ceedffd',1795644764,NULL,11);
INSERT INTO nodes VALUES('home','233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=','site','10.20.0.4','fd20::4','BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ=',51824,'["192.168.1.7/24", "fd00::7/64"]',60,NULL,'instance4','[]',NULL,0,'d8c28bce7ceedffd',1795644764,NULL,12);
CREATE TABLE presence (identity TEXT NOT NULL PRIMARY KEY, last_seen BIGINT NOT NULL);
INSERT INTO presence VALUES('233vdln/i6jlfyt/h3O8koRiwCfLygxn0LPZLIEou0U=',1795644764);
INSERT INTO presence VALUES('N9QuyfgPy4jXXGguEWfuJNyalcrM2ZT93tV5XQO7bTY=',1795644764);
INSERT INTO presence VALUES('RC6XDK2+hCzpL5AXXoin9SHEQT9Eeg2WvyXhcJArLEE=',1795644764);
INSERT INTO presence VALUES('woe588Q4YYpmzuIcNz5KKLtR8OpjYQnGG1Vl1f6igE8=',1795644764);
CREATE INDEX access_keys_revision ON access_keys (network, revision);
CREATE INDEX nodes_revision ON nodes (network, revision);
CREATE UNIQUE INDEX nodes_name ON nodes (network, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX nodes_address4 ON nodes (network, address4) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX nodes_address6 ON nodes (network, address6) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX nodes_wg_key ON nodes (network, wg_key) WHERE deleted_at IS NULL;
COMMIT;
