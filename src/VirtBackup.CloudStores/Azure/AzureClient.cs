using Azure;
using Azure.Core.Pipeline;
using Azure.Storage;
using Azure.Storage.Blobs;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Azure;

/// <summary>
/// Makes the SDK's client, without retries of its own. Credentials come from the environment: AZURE_STORAGE_CONNECTION_STRING,
/// or AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_KEY, as Azure's own tools take them.
/// </summary>
internal static class AzureClient
{
    private const string ConnectionVariable = "AZURE_STORAGE_CONNECTION_STRING";
    private const string TokenVariable = "AZURE_STORAGE_SAS_TOKEN";
    private const string KeyVariable = "AZURE_STORAGE_KEY";

    public static AzureRequests Open(StoreLocation location)
    {
        var (http, meter) = CloudHttp.Create(location);
        try
        {
            var options = new BlobClientOptions { Transport = new HttpClientTransport(http) };
            options.Retry.MaxRetries = 0;
            options.Retry.NetworkTimeout = Timeout.InfiniteTimeSpan;
            options.Diagnostics.IsTelemetryEnabled = false;
            return new AzureRequests(ServiceOf(location, options).GetBlobContainerClient(location.Bucket), http, meter, location);
        }
        catch (Exception failure)
        {
            http.Dispose();
            throw failure is FormatException or ArgumentException
                ? new FaultException(FaultReason.InvalidArgument, $"The credentials for {location.Text} cannot be read ({failure.Message.TrimEnd('.')}). Correct {ConnectionVariable}, {TokenVariable} or {KeyVariable}.", failure)
                : failure;
        }
    }

    private static BlobServiceClient ServiceOf(StoreLocation location, BlobClientOptions options)
    {
        var address = new Uri(location.Settings.GetValueOrDefault("endpoint", $"https://{location.Account}.blob.core.windows.net"));
        if (Variable(ConnectionVariable) is { } connection)
        {
            var client = new BlobServiceClient(connection, options);
            return client.AccountName == location.Account
                ? client
                : throw new FaultException(FaultReason.InvalidArgument, $"{ConnectionVariable} is for the account '{client.AccountName}', and {location.Text} is not. Correct one of them.");
        }
        if (Variable(TokenVariable) is { } token)
        {
            return new BlobServiceClient(address, new AzureSasCredential(token), options);
        }
        return Variable(KeyVariable) is { } key
            ? new BlobServiceClient(address, new StorageSharedKeyCredential(location.Account, key), options)
            : throw new FaultException(FaultReason.Denied, $"There are no credentials for {location.Text}. Set {ConnectionVariable}, {TokenVariable} or {KeyVariable} for the user who runs this.");
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
