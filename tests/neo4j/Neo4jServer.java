import java.nio.file.Path;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.configuration.ssl.ClientAuth;
import org.neo4j.configuration.ssl.SslPolicyConfig;
import org.neo4j.configuration.ssl.SslPolicyScope;
import org.neo4j.dbms.api.DatabaseManagementService;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;
import org.neo4j.graphdb.QueryExecutionException;

/**
 * A Neo4j server for tests, on loopback, that ends when whoever started it does: its standard input
 * is closed then.
 *
 * Arguments: the directory of its data, its port, the password of the user neo4j, and, to be talked
 * to over TLS alone, a directory with private.key and public.crt.
 */
public class Neo4jServer {
  public static void main(String[] arguments) throws Exception {
    var address = new SocketAddress("127.0.0.1", Integer.parseInt(arguments[1]));
    var builder =
        new DatabaseManagementServiceBuilder(Path.of(arguments[0]))
            .setConfig(BoltConnector.enabled, true)
            .setConfig(BoltConnector.listen_address, address)
            .setConfig(BoltConnector.advertised_address, address)
            .setConfig(GraphDatabaseSettings.auth_enabled, true)
            // A test that comes with a wrong password is not to keep the others out.
            .setConfig(GraphDatabaseSettings.auth_max_failed_attempts, 0)
            .setConfig(GraphDatabaseSettings.pagecache_memory, 64L << 20);
    if (arguments.length > 3) {
      var policy = SslPolicyConfig.forScope(SslPolicyScope.BOLT);
      builder
          .setConfig(policy.enabled, true)
          .setConfig(policy.base_directory, Path.of(arguments[3]))
          .setConfig(policy.client_auth, ClientAuth.NONE)
          .setConfig(BoltConnector.encryption_level, BoltConnector.EncryptionLevel.REQUIRED);
    }
    DatabaseManagementService service = builder.build();
    try {
      service
          .database("system")
          .executeTransactionally(
              "ALTER USER neo4j SET PASSWORD '" + arguments[2] + "' CHANGE NOT REQUIRED");
    } catch (QueryExecutionException error) {
      // Started again over the same directory.
      if (!error.getMessage().contains("cannot be the same")) throw error;
    }
    System.out.println("ready");
    while (System.in.read() >= 0) {}
    service.shutdown();
  }
}
