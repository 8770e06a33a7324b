using Amazon;
using Amazon.Runtime;
using Amazon.S3;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.S3;

/// <summary>Makes the SDK's client: credentials from its standard chain (environment, profile, container, instance), no retries of its own.</summary>
internal static class S3Client
{
    /// <summary>What stores that do not look at regions are told.</summary>
    private const string AnyRegion = "us-east-1";

    public static S3Requests Open(StoreLocation location)
    {
        var settings = location.Settings;
        var (http, meter) = CloudHttp.Create(location);
        var endpoint = settings.GetValueOrDefault("endpoint");
        var configuration = new AmazonS3Config
        {
            HttpClientFactory = new OneClient(http),
            MaxErrorRetry = 0,
            MaxStaleConnectionRetries = 0,
            ThrottleRetries = false,
            Timeout = Timeout.InfiniteTimeSpan,
            ForcePathStyle = settings.TryGetValue("path-style", out var style) ? style == "true" : endpoint is not null,
        };
        if (settings.TryGetValue("profile", out var profile))
        {
            configuration.Profile = new Profile(profile);
        }
        if (endpoint is not null)
        {
            configuration.ServiceURL = endpoint;
            configuration.AuthenticationRegion = settings.GetValueOrDefault("region", AnyRegion);
            // Stores that are not Amazon's refuse or mangle bodies with the checksums that the SDK adds by itself. The hash of the
            // body is signed all the same.
            configuration.RequestChecksumCalculation = RequestChecksumCalculation.WHEN_REQUIRED;
            configuration.ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED;
        }
        else if (settings.TryGetValue("region", out var region))
        {
            configuration.RegionEndpoint = RegionEndpoint.GetBySystemName(region);
        }
        try
        {
            return new S3Requests(new AmazonS3Client(configuration), http, meter, location);
        }
        catch (Exception failure) when (failure is AmazonClientException or AmazonServiceException or ArgumentException)
        {
            http.Dispose();
            throw new FaultException(
                FaultReason.InvalidArgument, $"The repository {location.Text} cannot be reached ({failure.Message.TrimEnd('.')}). Give region= or endpoint= in its address, or set AWS_REGION.", failure);
        }
    }

    private sealed class OneClient(HttpClient client) : HttpClientFactory
    {
        public override HttpClient CreateHttpClient(IClientConfig clientConfig) => client;

        public override bool UseSDKHttpClientCaching(IClientConfig clientConfig) => false;

        public override bool DisposeHttpClientsAfterUse(IClientConfig clientConfig) => false;
    }
}
